"""Files by which other software keeps a spec running; pure, a job becomes text."""
