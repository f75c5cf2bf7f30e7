"""What accompanies a dataset or a model that is handed on: cards, licences, marks of origin, legible pictures."""
