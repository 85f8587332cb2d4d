"""Whether servers of all kinds see the requests that the gate means: mutated requests through it, to real servers."""
