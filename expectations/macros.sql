/* What several suites measure, run once on the connection before their queries. `has_markup(text)` comes beside these
   from the package, since staging refuses by the same pattern. */

create or replace temp macro l2_norm(vector) as sqrt(list_sum(list_transform(vector, lambda x: x::double * x)));

create or replace temp macro non_finite(vector) as len(list_filter(vector, lambda x: x is null or not isfinite(x)));

/* Sentences in which a vision-language model declines: at the start of a sentence, so that a shirt that
   reads "I can't even" passes; "as an AI" and a missing image anywhere. */
create or replace temp macro is_refusal(text) as regexp_matches(text, concat(
  '(?i)(?:^|[.!?:]\s+)\W*(?:i(?:[''’]m| am) (?:very )?(?:sorry|unable|not able|afraid)',
  '|i (?:cannot|can ?not|can[''’]t|won[''’]t|do not see|don[''’]t see)\b|(?:sorry|unfortunately|my apologies),)',
  '|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b',
  '|\bno (?:image|photo|picture) (?:was|is|has been) (?:provided|attached|uploaded|given)',
  '|\bplease (?:provide|upload|attach|share) (?:an?|the|your) (?:image|photo|picture)'
));
