"""The claims, measured: `python -m benchmarks NAME...`. Targets stand in targets.toml and are never loosened."""
