"""What the kinds share: the vocabulary of reasons, and the pace of status writes."""
