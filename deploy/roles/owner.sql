-- For a server that others use, too: run once by a superuser, in the database that c360 is to use, before its first start.
--
--   psql --file deploy/roles/owner.sql DATABASE
--   psql --command '\password c360' DATABASE
--
-- c360 owns its two schemas and everything in them; it may make no others and sees nobody else's tables. It is no superuser:
-- row-level security would not hold for one. Requests with a row filter are answered under c360_limited, which owns nothing
-- and logs in nowhere; two extensions that come with Postgres make search find what is spelled otherwise.

do $$
begin
    create role c360 login;
exception
    when duplicate_object then null;
end
$$;

do $$
begin
    create role c360_limited nologin;
exception
    when duplicate_object then null;
end
$$;

grant c360_limited to c360;

create extension if not exists pg_trgm;
create extension if not exists unaccent;

create schema if not exists staging authorization c360;
create schema if not exists customer360 authorization c360;
