"""Development spaces: an editor connected to a job."""
