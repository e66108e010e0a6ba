"""What finished runs say: tables, metrics, statistics, comparisons."""
