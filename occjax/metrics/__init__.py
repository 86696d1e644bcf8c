"""The published evaluation protocols as mergeable states."""
