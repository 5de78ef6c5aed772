-- Which captions failed, and why?
SELECT
    captions.status,
    COUNT(*) AS items,
    ANY_VALUE(captions.error) AS example_reason,
    LIST(captions.item_id ORDER BY captions.item_id)[:5] AS example_items
FROM captions.item_captions AS captions
WHERE captions.status <> 'ok'
GROUP BY captions.status
ORDER BY items DESC, captions.status
