"""The report: verdict, tables and plots of a comparison."""
