"""Building blocks that several plugins share: attention, dependence measures, inverse networks, running scales."""
