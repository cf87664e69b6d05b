"""A load test against a running gateway with the demo agent, over its public routes: `sightline bench`."""
