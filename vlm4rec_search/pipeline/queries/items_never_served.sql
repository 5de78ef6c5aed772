-- Which items has the service served to nobody in the last 30 days of its answers?
SELECT
    documents.item_id,
    documents.title,
    documents.category,
    documents.available,
    popularity.shoppers AS interested_shoppers -- with a view, too
FROM search.item_documents AS documents
LEFT JOIN search.item_popularity AS popularity ON popularity.item_id = documents.item_id
WHERE
    EXISTS (SELECT 1 FROM served.recommendations AS recommendations)
    AND documents.item_id NOT IN (
        SELECT recommendations.item_id
        FROM served.recommendations AS recommendations
        WHERE recommendations.item_id IS NOT NULL AND recommendations.served_at > (
            SELECT MAX(newest.served_at) - INTERVAL 30 DAY FROM served.recommendations AS newest))
ORDER BY interested_shoppers DESC NULLS LAST, documents.item_id
