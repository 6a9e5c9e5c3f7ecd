from dataclasses import dataclass
import nemo_run as run

@dataclass
class ModelConfig:
    hidden_size: int = 512
    num_layers: int = 12
    dropout: float = 0.1

@dataclass
class TrainingConfig:
    learning_rate: float = 1e-4
    batch_size: int = 32
    epochs: int = 100

# Direct configuration
config = run.Config(ModelConfig, hidden_size=1024, num_layers=24)
model = config.build()  # Returns ModelConfig instance

# Partial configuration
train_fn = run.Partial(train_model, model=ModelConfig(), training=TrainingConfig())

# CLI usage: python train.py model.hidden_size=1024 training.learning_rate=2e-4
