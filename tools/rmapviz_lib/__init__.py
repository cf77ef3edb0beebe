"""What the command tools/rmapviz is made of."""
