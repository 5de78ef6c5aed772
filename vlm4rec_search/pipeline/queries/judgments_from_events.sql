-- What do events say of the items that were served: 3 bought, 2 put into the cart, 1 opened, 0 neither?
SELECT
    recommendations.user_id,
    recommendations.item_id,
    MAX(CASE
        WHEN outcomes.was_bought THEN 3 WHEN outcomes.went_into_cart THEN 2 WHEN outcomes.was_clicked THEN 1 ELSE 0
    END) AS judgment,
    MIN(recommendations.position) AS best_position
FROM served.recommendations AS recommendations
INNER JOIN served.outcomes AS outcomes
    ON outcomes.recommendation_id = recommendations.recommendation_id AND outcomes.item_id = recommendations.item_id
WHERE recommendations.user_id IS NOT NULL
GROUP BY recommendations.user_id, recommendations.item_id
ORDER BY recommendations.user_id, judgment DESC, recommendations.item_id
