"""Running and judging methods: models, data, training, evaluation."""
