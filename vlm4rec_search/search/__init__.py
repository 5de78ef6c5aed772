"""From a query to its answer: facts, plan, retrievers, fusion, reranking, rules and explanations."""
