"""A trained dictionary becomes an artifact: graphs, statistics, description, parity gate."""
