"""Which of a service's servers is asked next."""
