"""What experiments, services and tasks that are not to be trusted can do.

| kind | tested in | on |
|---|---|---|
| looking opens, runs, calls, loads nothing | test_looking, test_fuzz | files that name every engine |
| whose an experiment is, adopting, running again | test_adopting, test_environment | files that all engines share |
| records of Ray clusters and jobs | test_ray_records | files that all engines share |
| odd, endless or acting answers | test_services | Lepton, DGX Cloud, Kubernetes, Kubeflow, Docker |
| handles, tokens, addresses | test_credentials, test_looking | Slurm; Lepton, DGX Cloud; every REST service |
| links and paths | test_links | local, Lepton; those of containers: tests/docker/test_links.py |
| processes, folders and clocks | test_processes | local |
| secrets in output | test_secrets | every executor |
| control characters | test_escapes, test_fuzz | the commands |
"""
