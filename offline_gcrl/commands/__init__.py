"""What `make` calls besides the stages."""
