"""How it learns: architectures, data sets, training, evaluation, registry."""
