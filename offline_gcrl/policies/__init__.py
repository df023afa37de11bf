"""A trained policy: loading, acting, scaling."""
