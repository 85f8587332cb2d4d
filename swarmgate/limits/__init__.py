"""What limits count with: buckets and counts in one process, in memory that worker processes share, or in Redis."""
