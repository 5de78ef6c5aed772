"""Between `sqlmesh plan` and a published release: variables, quality, publication, record, diff, doctor."""
