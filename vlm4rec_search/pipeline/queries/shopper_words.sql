-- Which words describe each shopper's taste?
SELECT terms.user_id, STRING_AGG(terms.word, ', ' ORDER BY terms.rank) AS words
FROM profiles.term_weights AS terms
WHERE terms.rank <= 8
GROUP BY terms.user_id
ORDER BY terms.user_id
