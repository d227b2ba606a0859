"""Block distillation: a student in block mode learns to predict like a teacher in full mode."""
