-- Which items does the newest release show to none of the sampled shoppers?
WITH newest AS (
    SELECT releases.release
    FROM releases.releases AS releases
    WHERE releases.release IN (SELECT lists.release FROM served.top_lists AS lists)
    ORDER BY releases.recorded_at DESC
    LIMIT 1
)
SELECT
    documents.item_id,
    documents.title,
    documents.category,
    documents.available,
    popularity.shoppers AS took_it,
    documents.caption IS NOT NULL AS has_caption
FROM search.item_documents AS documents
INNER JOIN newest ON TRUE
LEFT JOIN search.item_popularity AS popularity ON popularity.item_id = documents.item_id
WHERE documents.item_id NOT IN (
    SELECT lists.item_id FROM served.top_lists AS lists WHERE lists.release = newest.release)
ORDER BY took_it DESC NULLS LAST, documents.item_id
