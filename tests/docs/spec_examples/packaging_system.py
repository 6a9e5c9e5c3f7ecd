import nemo_run as run

# Git archive packaging
git_packager = run.GitArchivePackager()

# Pattern-based packaging
pattern_packager = run.PatternPackager(
    include=["*.py", "*.yaml", "*.json"],
    exclude=["__pycache__", "*.pyc", "tests/"]
)

# Hybrid packaging
hybrid_packager = run.HybridPackager([
    git_packager,
    pattern_packager
])

# Use with executor
executor = run.SlurmExecutor(packager=hybrid_packager)
