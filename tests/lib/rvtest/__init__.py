"""What tests stand on: kernels, roots and builds, guests, scenes."""
