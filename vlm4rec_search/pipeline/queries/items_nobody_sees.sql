-- Which items does the newest release of each index show to none of the sampled shoppers?
WITH newest AS (
    SELECT releases.release
    FROM releases.releases AS releases
    WHERE releases.release IN (SELECT lists.release FROM shown.top_lists AS lists)
    QUALIFY ROW_NUMBER() OVER (PARTITION BY releases.url ORDER BY releases.recorded_at DESC) = 1
)
SELECT
    newest.release,
    documents.item_id,
    documents.title,
    documents.category,
    documents.available,
    popularity.shoppers AS interested_shoppers, -- with a view, too
    documents.caption IS NOT NULL AS has_caption
FROM search.item_documents AS documents
INNER JOIN newest ON TRUE
LEFT JOIN search.item_popularity AS popularity ON popularity.item_id = documents.item_id
WHERE NOT EXISTS (
    SELECT 1 FROM shown.top_lists AS lists
    WHERE lists.release = newest.release AND lists.item_id = documents.item_id)
ORDER BY newest.release DESC, interested_shoppers DESC NULLS LAST, documents.item_id
