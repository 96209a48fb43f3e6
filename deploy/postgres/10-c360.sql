-- Run once by the postgres image, on an empty volume, as the superuser.
--
-- c360 gets a database and an account of its own. It owns the database, so that it can migrate it and create the trusted
-- extensions (pg_trgm, unaccent, pgcrypto), and is no superuser: row-level security would not hold for one.

\set password `cat /run/secrets/database_password`

create role c360
  login
  password :'password';

create database c360
  owner c360
  template template0
  encoding 'UTF8';

revoke connect
  on database c360
  from public;
