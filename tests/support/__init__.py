"""What several test modules share: servers, stores, stand-ins, waiting, strategies and load."""
