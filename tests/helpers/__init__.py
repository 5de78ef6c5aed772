"""What tests build: workspaces, catalogues, servers and their faults."""
