"""What the driver alone asks: the steps of a run, as run.sh tells them before it runs them."""
