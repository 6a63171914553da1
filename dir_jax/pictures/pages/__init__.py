"""Self-contained HTML pages: pictures, orbitable hands and curves in one file, no network."""
