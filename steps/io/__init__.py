"""What steps share: folder artifacts, cache keys, the checkpoint store, workspaces, transfer."""
