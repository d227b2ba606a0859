"""Block distillation: a teacher that reads documents whole, and a student that reads them block by block alike."""
