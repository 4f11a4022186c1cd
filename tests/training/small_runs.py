"""Settings of runs that take seconds: see the fixtures `overrides` and `configure`."""

LOVT = ["method=lovt", "text.model=tiny", "local_crops_number=0"]
SETTINGS = {
    "data": "phantom_cxr",
    "data.num_train": 48,
    "data.num_validate": 12,
    "data.num_test": 24,
    "data.image_size": 32,
    "data.num_workers": 1,
    "data.size": 32,
    "encoder": "small_cnn",
    "encoder.image_size": 32,
    "encoder.multiplier": 0.25,
    "text.model": "hashed",
    "embed_dim": 8,
    "predictor_width": 16,
    "batch_size": 8,
    "epochs": 100,
    "max_steps": 6,
    "warmup_steps": 4,
    "lr": 1e-3,
    "save_every_n_steps": 3,
    "metrics_every_n_steps": 2,
    "precision": "32-true",
    "accelerator": "cpu",
    "num_workers": 0,
    "global_crops_number": 1,
    "global_size": 32,
    "local_crops_number": 1,
    "local_size": 16,
}
# An encoder without batch norm.
VIT = [
    "encoder=timm_image",
    "encoder.arch=vit_tiny_patch16_224",
    "encoder.hidden_size=24",
    "encoder.num_layers=1",
    "encoder.num_heads=2",
    "~encoder.multiplier",
]
