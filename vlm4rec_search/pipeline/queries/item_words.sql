-- Which words describe each item best?
SELECT
    terms.item_id,
    documents.title,
    STRING_AGG(terms.word, ', ' ORDER BY terms.rank) AS words
FROM search.item_terms AS terms
INNER JOIN search.item_documents AS documents ON documents.item_id = terms.item_id
WHERE terms.rank <= 8
GROUP BY terms.item_id, documents.title
ORDER BY terms.item_id
