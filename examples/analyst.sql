-- A session at a DuckDB prompt on the published copy: duckdb -readonly published/warehouse.duckdb
-- or python -c "import duckdb; print(duckdb.connect('published/warehouse.duckdb', read_only=True).sql('QUERY'))"

-- How many items and interactions were refused, and why?
SELECT 'items' AS rows, reason, COUNT(*) AS refused FROM staging.rejected_items GROUP BY ALL
UNION ALL
SELECT 'interactions', reason, COUNT(*) FROM staging.rejected_interactions GROUP BY ALL
ORDER BY refused DESC;

-- Which photos have no usable caption?
SELECT status, COUNT(*) AS items FROM captions.item_captions GROUP BY ALL ORDER BY items DESC;

-- What does a shopper like, in words?
SELECT user_id, STRING_AGG(word, ', ' ORDER BY rank) AS words
FROM profiles.term_weights WHERE rank <= 5 GROUP BY ALL ORDER BY user_id LIMIT 5;

-- Which items are popular of late, and which only were?
SELECT documents.title, popularity.recent, popularity.shoppers
FROM search.item_popularity AS popularity INNER JOIN search.item_documents AS documents USING (item_id)
ORDER BY popularity.rank LIMIT 10;

-- Which terms describe an item best?
SELECT item_id, word, weight FROM search.item_terms WHERE rank <= 3 ORDER BY item_id, rank LIMIT 12;
