"""ONE decoder and its parts. `model.spec` is torch-free; everything else here needs torch."""
