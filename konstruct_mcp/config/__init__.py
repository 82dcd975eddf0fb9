"""One frozen `Config` out of YAML files and the environment, with every fault named at once.

reading                                                  the order of the steps: `load_config`
source, yaml, mapping                                    a file and those that it includes, or a mapping, as plain data
sections, litellm_keys                                   what a section may hold, and what becomes of each key
findings                                                 faults, and what is lost or has no effect
environment, references, secret_files, keychain          variables, the `os.environ/NAME` that stands for one, secrets
deployments, defaults, param_checks                      entries of `model_list` into deployments
groups, wildcards, fallbacks                             deployments into model groups, and what is asked after each
tenants, ledger_place, files, threads, redis             our own section
http, auth, metrics                                      what of it a server over HTTP goes by
litellm_budgets                                          LiteLLM's spending limits, which our budgets have to repeat
provider_needs, cloud_credentials, packages, embedded    what a deployment lacks before it can be called
model_fields, model_tables, model_lookup, model_updates  what is known of models
built_in, first_config                                   the config without a file, and the text of a first one
model, public, masking                                   the outcome, and what may be shown of it
"""
