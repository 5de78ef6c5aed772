-- What do events say of the items that shoppers were shown: 3 bought, 2 put into the cart, 1 opened, 0 neither?
SELECT
    recommendations.user_id,
    recommendations.item_id,
    MAX(CASE events.kind
        WHEN 'purchase' THEN 3 WHEN 'order' THEN 3 WHEN 'cart' THEN 2 WHEN 'click' THEN 1 WHEN 'view' THEN 1 ELSE 0
    END) AS judgment,
    MIN(recommendations.position) AS best_position
FROM served.recommendations AS recommendations
INNER JOIN served.events AS events
    ON events.query_id = recommendations.recommendation_id AND events.item_id = recommendations.item_id
WHERE recommendations.user_id IS NOT NULL
GROUP BY recommendations.user_id, recommendations.item_id
ORDER BY recommendations.user_id, judgment DESC, recommendations.item_id
