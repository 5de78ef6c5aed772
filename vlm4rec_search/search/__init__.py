"""Profile queries: what is asked, which legs answer it, how their answers are fused and explained."""
