"""SidecarSet: containers that join the pods of others, and are upgraded there."""
