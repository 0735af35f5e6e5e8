"""What builds, generates and checks this project; nothing here is shipped."""
