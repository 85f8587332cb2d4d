"""The dashboard: a page that shows what the API tells, and the resource that serves it."""
