-- How often do shoppers open what the service shows, by position?
SELECT
    recommendations.position,
    COUNT(*) AS served,
    COUNT(*) FILTER (outcomes.was_seen) AS impressions,
    COUNT(*) FILTER (outcomes.was_clicked) AS clicks,
    COUNT(*) FILTER (outcomes.went_into_cart) AS carts,
    COUNT(*) FILTER (outcomes.was_bought) AS purchases,
    -- Where the shop sends no impressions, what was served counts.
    ROUND(clicks / COALESCE(NULLIF(impressions, 0), served), 4) AS click_through
FROM served.recommendations AS recommendations
LEFT JOIN served.outcomes AS outcomes ON outcomes.recommendation_id = recommendations.recommendation_id
    AND outcomes.item_id = recommendations.item_id
WHERE recommendations.item_id IS NOT NULL
GROUP BY recommendations.position
ORDER BY recommendations.position
