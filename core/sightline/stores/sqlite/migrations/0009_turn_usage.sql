-- What each turn used, for whoever accounts for it elsewhere: nothing (null), or all of it.
ALTER TABLE turns ADD COLUMN usage TEXT;
