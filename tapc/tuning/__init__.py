"""What measuring on the device decides: schedules of kernels, and the coefficients of the cost model."""
