"""Tests of cascata: one folder for each room of the package, and the promises that span rooms."""
