import nemo_run as run

class LoggingPlugin(run.Plugin):
    def setup(self, task, executor):
        # Add logging configuration
        if hasattr(executor, 'env_vars'):
            executor.env_vars['LOG_LEVEL'] = 'DEBUG'

        # Modify task configuration
        if hasattr(task, 'config'):
            task.config.logging = True

# Use plugin
plugin = LoggingPlugin()
run.run(config, executor=executor, plugins=[plugin])
