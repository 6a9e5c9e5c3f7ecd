"""Serializers of configurations, under the names that scripts and stored experiments know."""
